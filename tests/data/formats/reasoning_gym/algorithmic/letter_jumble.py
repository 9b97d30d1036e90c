QUESTION_TEMPLATE = """Put these back: {words}
"""
