//! Sallyport's WireGuard data plane.
