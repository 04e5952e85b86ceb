"""The generated blocks of the reference, each made from the code that it is about."""
