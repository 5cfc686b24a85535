//! Sallyport's replay: timeline, terminal player, export, verify.
