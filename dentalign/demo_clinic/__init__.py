"""Made-up orthodontic practice: cases to try dentalign on without any patient."""
