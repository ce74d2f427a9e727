"""Image formats: what each one's header tells, and what of it must be bounded."""
