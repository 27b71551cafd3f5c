"""Images: decoding, folders and index files of labels, planning, encoding."""
