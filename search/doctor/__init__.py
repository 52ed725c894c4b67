"""What is asked of the machines of a search before it is started, and what is made of their answers (docs/clusters.md)."""
