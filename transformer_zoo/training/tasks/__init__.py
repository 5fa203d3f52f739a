"""What is particular to translation and to language modelling: recipes, objectives, validation."""
