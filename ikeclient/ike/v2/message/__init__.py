"""One IKE message: protection, fragments and the window of message IDs."""
