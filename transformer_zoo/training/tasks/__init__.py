"""What is specific to translation and to language modelling: recipes, objectives, validation."""
