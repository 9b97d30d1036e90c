QUESTION_TEMPLATE = """Insert into this: {string}
"""
