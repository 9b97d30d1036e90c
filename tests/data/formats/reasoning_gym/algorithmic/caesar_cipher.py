class Dataset:
    def __getitem__(self, idx):
        cipher_text = self.texts[idx]
        return {"question": f"Decrypt: {cipher_text}. Nothing else."}
