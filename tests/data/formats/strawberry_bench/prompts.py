SYSTEM_PROMPT = "Count. Write a number."
