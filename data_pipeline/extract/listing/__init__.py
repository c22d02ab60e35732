"""Which files a corpus has: walked, listed, each under a name that is text."""
