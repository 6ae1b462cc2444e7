"""The architecture as DESIGN has it: import-linter's contracts, and the rules that they cannot say."""
