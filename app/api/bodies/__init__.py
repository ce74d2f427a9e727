"""The bytes of requests and answers: uploads, JSON, media types."""
