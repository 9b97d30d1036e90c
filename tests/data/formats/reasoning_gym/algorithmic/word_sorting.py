QUESTION_TEMPLATE = """In {direction} order: {words}
"""
