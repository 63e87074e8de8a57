"""What tests share: writers of small files."""
