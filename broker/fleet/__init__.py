"""The operator's verbs, each a module `verb_*`; run as `fleet` or `python -m broker.fleet`."""
