SYSTEM_PROMPTS = {
    "other": "Answer.",
    "default": """Think, then answer.
<answer>like this</answer>
""",
}
