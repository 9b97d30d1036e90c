class Dataset:
    def __getitem__(self, idx):
        letter, span = self.spans[idx]
        return {"question": f'How often is "{letter}" in "{" ".join(span)}"?'}
