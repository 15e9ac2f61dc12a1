"""The command line of the analysis: `main` finds a verb's own file, each verb is one file."""
