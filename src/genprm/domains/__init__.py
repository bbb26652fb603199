"""What is special about a subject: extracting, grading and splitting. Mathematics comes first."""
