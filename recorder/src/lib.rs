//! Sallyport's recordings: events, formats, hash chain, segments, storage.
