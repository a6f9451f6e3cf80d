"""Class tables of the field: names, official numbers and colours, for preparing and scoring."""
