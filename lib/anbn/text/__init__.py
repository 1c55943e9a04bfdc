"""Text: transcripts and stories, words and what is known of them, tokens."""
