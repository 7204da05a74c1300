"""What the stage `validate` leaves for people: the HTML report, pictures, tables, model cards."""
