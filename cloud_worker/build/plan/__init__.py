"""Which cut, codec and operating point for a link: every candidate priced, ranked, shown."""
