"""What is asked of a server: texts and options, cut into requests, driven, and their replies put together."""
