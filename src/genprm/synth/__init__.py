"""Parts of the method that make training data: solutions, Monte-Carlo scores, labels, rationales, consensus."""
