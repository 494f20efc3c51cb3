"""What happens to the graph: labels, groups, scores, allocation, slicing, recovery."""
