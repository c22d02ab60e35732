"""The honesty table: real clips turned into cheats without any trained generator, and which measure catches which."""
