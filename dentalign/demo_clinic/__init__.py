"""Made-up orthodontic practice: cases to try dentalign without data of patients."""
