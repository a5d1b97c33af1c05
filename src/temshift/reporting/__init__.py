"""From tables to sentences, figures and the report; opens no files but its own templates."""
