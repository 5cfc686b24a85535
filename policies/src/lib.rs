//! Sallyport's policy language: text in, decisions out.
