"""What unlabelled data is used for: error curves, allocation under a price, closed-form refits."""
