class Dataset:
    def __getitem__(self, idx):
        word = self.words[idx]
        return {"question": f"Backward {{braces}}: {word}", "answer": word[::-1]}
