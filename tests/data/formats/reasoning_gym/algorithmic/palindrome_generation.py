QUESTION_TEMPALTE = """One palindrome of: {letters}
"""
