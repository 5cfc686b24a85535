//! Sallyport against real peers.
