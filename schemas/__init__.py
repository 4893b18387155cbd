"""The words of splitbus: pure data and pure functions, no network, no asyncio, no threads, no torch."""
