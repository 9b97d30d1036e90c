"""The token embedding that also knows the letters.

Axes: B batch, T tokens per row, U distinct tokens, V vocabulary, D model width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from . import registry
from .encoder import ON_META, LSTMEncoder
from .errors import AttachError, CharEmbedError
from .host import Bare, check
from .spelling import SpellingTable

TOKENS_AT_ONCE = 4_096  # of the vocabulary, while its table is computed: bounds the memory of the encoder's states
PROBED = 64  # values of each parameter that are looked at, before a table is trusted
HOOKS = [name for name in nn.Module().__dict__ if "_hooks" in name]


class CharEmbedding(nn.Embedding):
    """An `nn.Embedding` whose vectors are token + spelled: ids_BT (B, T) -> (B, T, D).

    It takes the host's embedding over: `weight` stays the same Parameter under the same state-dict key, so tied heads,
    `isinstance` checks and plain checkpoints keep working. The encoder is any module that maps distinct ids (U,) to
    vectors (U, D). Because those depend on the id alone,

    - in training each distinct token of a batch is encoded once and gathered;
    - in evaluation the sum for the whole vocabulary is one table, computed once and looked up.

    Raises AttachError for an embedding that it cannot take over.
    """

    encoder: nn.Module
    optimizer_steps = 0  # of any optimizer in this process: fused ones leave no trace in a parameter's version

    def __init__(self, host: nn.Embedding, encoder: nn.Module) -> None:
        check(host)
        nn.Module.__init__(self)
        self.num_embeddings, self.embedding_dim = host.num_embeddings, host.embedding_dim
        self.padding_idx, self.max_norm, self.norm_type = host.padding_idx, host.max_norm, host.norm_type
        self.scale_grad_by_freq, self.sparse = host.scale_grad_by_freq, host.sparse
        for name, parameter in host.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, buffer in host.named_buffers(recurse=False):
            self.register_buffer(name, buffer, persistent=name not in host._non_persistent_buffers_set)
        for name in HOOKS:  # shared, so that a hook set before or while attached is there before and after
            setattr(self, name, getattr(host, name))
        self._is_full_backward_hook = host._is_full_backward_hook
        self.encoder = encoder
        self._host = (Bare(host),)  # subtle: in a tuple, so that it is no submodule and the keys stay the host's
        self._table: tuple[Any, Tensor, Tensor] | None = None
        self._key = registry.register(self)
        self.train(host.training)

    @classmethod
    def from_embedding(
        cls, embedding: nn.Embedding, table: SpellingTable, *, init: str = "zero", char_dim: int = 128, hidden_size: int = 128, seed: int = 0
    ) -> CharEmbedding:
        """Give an embedding its letters, for hosts that `attach` does not know: put the result where the embedding was.

        model.embed = CharEmbedding.from_embedding(model.embed, SpellingTable.from_tokenizer(tokenizer, model.embed.num_embeddings))

        The encoder stands on the embedding's device, in float32 even where the embedding has half precision: small
        updates of an LSTM would be lost there. For the arguments see `LSTMEncoder`.

        Raises AttachError, and changes nothing, for an embedding that cannot be taken over or a table of another size.
        """
        check(embedding)
        if table.num_tokens != embedding.num_embeddings:
            raise AttachError(
                f"the spelling table has {table.num_tokens} tokens, but the embedding has {embedding.num_embeddings} rows: "
                f"build it with num_tokens={embedding.num_embeddings}."
            )
        encoder = LSTMEncoder(table, embedding.embedding_dim, init=init, char_dim=char_dim, hidden_size=hidden_size, seed=seed)
        return cls(embedding, encoder.to(embedding.weight.device, torch.promote_types(embedding.weight.dtype, torch.float32)))

    @property
    def num_embeddings(self) -> int:
        """Rows. Fewer than before (`resize_token_embeddings`) take the letters of the lost rows with them, for good."""
        return self._num_embeddings

    @num_embeddings.setter
    def num_embeddings(self, number: int) -> None:
        self._num_embeddings = number
        encoder = self._modules.get("encoder")
        if isinstance(encoder, LSTMEncoder) and number < encoder.table.num_tokens:
            self.respell(encoder.table.first(number))

    @property
    def host(self) -> nn.Embedding:
        """The embedding that was there before, as it was; `release` brings it up to date."""
        return self._host[0].host

    def release(self) -> nn.Embedding:
        """The host with the weights, size and mode of now."""
        host = self.host
        host.num_embeddings, host.padding_idx = self.num_embeddings, self.padding_idx
        host._is_full_backward_hook = self._is_full_backward_hook
        for name in host._parameters:
            host._parameters[name] = self._parameters[name]
        for name in host._buffers:
            host._buffers[name] = self._buffers[name]
        return host.train(self.training)

    def forward(self, ids: Tensor) -> Tensor:
        """ids (...) -> (..., D). Raises CharEmbedError for an id outside the table (on a GPU torch's own assertion comes first)."""
        if torch.compiler.is_compiling():
            return self.vectors(ids)
        if self.host.weight is not self.weight:  # FSDP and to_empty put other parameters here
            self.release()  # so that the host does not keep the old ones alive
        try:
            return self.vectors(ids)
        except IndexError:
            wrong = ids[(ids < 0) | (ids >= self.num_embeddings)]
            if len(wrong) == 0:
                raise
            raise CharEmbedError(
                f"token id {int(wrong[0])} is outside the embedding of {self.num_embeddings} tokens: use the tokenizer that the model "
                f"was built for, or resize the embedding first."
            ) from None

    def vectors(self, ids: Tensor) -> Tensor:
        """`forward` without the kind word for a wrong id."""
        if self.training:
            return self.token_plus_spelled(ids)
        exact: Tensor = _from_table(ids, self.weight.detach(), self._key) if torch.compiler.is_compiling() else self.look_up(self.table(), ids)
        if torch.is_grad_enabled() and any(parameter.requires_grad for parameter in self.parameters()):
            # The value of the table, bit for bit, with the gradient of the sum: x - x is exactly zero.
            smooth = self.token_plus_spelled(ids)
            return exact + (smooth - smooth.detach())
        return exact

    def token_plus_spelled(self, ids_BT: Tensor) -> Tensor:
        """The sum with its gradient: the letters of each distinct token are read once."""
        token_BTD = self.look_up(self.weight, ids_BT, self.scale_grad_by_freq, self.sparse)
        if torch.compiler.is_compiling():  # shapes must not depend on the data: the encoder finds the distinct ones itself
            ids_U, which_BT = ids_BT.flatten(), torch.arange(ids_BT.numel(), device=ids_BT.device).view(ids_BT.shape)
        else:
            ids_U, which_BT = torch.unique(ids_BT, return_inverse=True)
        spelled_UD: Tensor = self.encoder(ids_U)
        spelled_UD = spelled_UD.to(self.weight.dtype)
        if self.padding_idx is not None:
            spelled_UD = torch.where((ids_U == self.padding_idx)[:, None], spelled_UD.detach(), spelled_UD)
        if self._plain_look_up:
            return token_BTD + nn.functional.embedding(which_BT, spelled_UD)
        if self.padding_idx is not None:
            # subtle: the host gives its padding row no gradient, and that is a row of the vocabulary, not of this batch
            spelled_UD, which_BT = nn.functional.pad(spelled_UD, (0, 0, self.padding_idx + 1, 0)), which_BT + self.padding_idx + 1
        return token_BTD + self.look_up(spelled_UD, which_BT)

    @property
    def _plain_look_up(self) -> bool:
        return type(self.host).forward is nn.Embedding.forward

    def look_up(self, weight: Tensor, ids: Tensor, scale_grad_by_freq: bool = False, sparse: bool = False) -> Tensor:
        """Rows of `weight`, through the host's own forward where it has one (Gemma-like hosts scale there)."""
        if self._plain_look_up:
            return nn.functional.embedding(ids, weight, self.padding_idx, scale_grad_by_freq=scale_grad_by_freq, sparse=sparse)
        state = {**self._parameters, **self._buffers, "weight": weight}
        rows: Tensor = torch.func.functional_call(self._host[0], {f"host.{name}": value for name, value in state.items() if value is not None}, (ids,))
        return rows

    def table(self) -> Tensor:
        """(V, D): token + spelled for every id; recomputed when a parameter has changed since the last call.

        Changes are seen by the parameters' versions, by the steps of optimizers, and by a few of the values themselves. A
        write through `.data` that touches few rows escapes all three: call `eval()` after one.
        """
        with torch.no_grad():
            parameters = [parameter.detach() for parameter in self.parameters()]
            if any(parameter.is_meta for parameter in parameters):
                raise CharEmbedError(ON_META)
            probe = torch.cat([p.flatten()[:: max(1, p.numel() // PROBED)] for p in parameters])
        state = CharEmbedding.optimizer_steps, *((p.data_ptr(), 0 if p.is_inference() else p._version, p.dtype, p.shape) for p in parameters)
        if self._table is None or self._table[0] != state or not torch.equal(self._table[1], probe):
            self._table = state, probe, self.compute_table()
        return self._table[2]

    def compute_table(self) -> Tensor:
        """`table`, computed anew."""
        device, training = self.weight.device, self.encoder.training
        # subtle: no_grad within, because leaving inference mode turns gradients on
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
            table_VD = self.weight.detach().clone()
            self.encoder.eval()
            for ids_U in torch.split(torch.arange(self.num_embeddings, device=device), TOKENS_AT_ONCE):
                table_VD[ids_U[0] : ids_U[-1] + 1] += self.encoder(ids_U).to(self.weight.dtype)
            self.encoder.train(training)
        return table_VD

    @property
    def spellings(self) -> SpellingTable:
        """What the encoder reads. Raises AttachError when it is not an LSTMEncoder, and so reads no SpellingTable."""
        return self._lstm_encoder.table

    def check_whole(self) -> None:
        """Raises AttachError when the weights here are not the whole table: on the meta device, a share of it, or of another size."""
        if any(parameter.is_meta for parameter in self.parameters()):
            raise AttachError("the weights are on the meta device: load them first.")
        if any(hasattr(parameter, "device_mesh") for parameter in self.parameters()) or self.weight.dim() != 2 or self.weight.numel() == 0:
            raise AttachError(
                "the weights are sharded over processes: gather them into an unsharded copy of the model first "
                "(torch.distributed.checkpoint.state_dict.get_model_state_dict with full_state_dict=True)."
            )
        if len(self.weight) != self.num_embeddings:
            raise AttachError(f"the weight has {len(self.weight)} rows, but num_embeddings is {self.num_embeddings}: set it to {len(self.weight)}.")

    def respell(self, table: SpellingTable) -> None:
        """See `charembed.respell`."""
        self._lstm_encoder.respell(table)
        self._table = None

    @property
    def _lstm_encoder(self) -> LSTMEncoder:
        if not isinstance(self.encoder, LSTMEncoder):
            raise AttachError(f"the encoder is a {type(self.encoder).__name__}: only charembed's LSTMEncoder has spellings that can be looked at and changed.")
        return self.encoder

    def train(self, mode: bool = True) -> CharEmbedding:
        self._table = None  # an optimizer that writes through .data leaves no trace in the versions
        super().train(mode)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # A plain checkpoint has nothing to say about the encoder, which then stays as it is; a part of one is an error.
        if not any(name.startswith(f"{prefix}encoder.") for name in state_dict):
            state_dict.update({f"{prefix}encoder.{name}": value for name, value in self.encoder.state_dict().items()})
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._table = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_table": None}  # a copy computes its own

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._key = registry.register(self)


# A compiled graph cannot ask whether the table is still true; this operator, which it does not look into, can.
@torch.library.custom_op("charembed::from_table", mutates_args=())
def _from_table(ids: Tensor, weight: Tensor, key: str) -> Tensor:
    embedding: CharEmbedding = registry.find(key)
    return embedding.look_up(embedding.table(), ids).clone()


@_from_table.register_fake
def _(ids: Tensor, weight: Tensor, key: str) -> Tensor:
    embedding: CharEmbedding = registry.find(key)
    return embedding.look_up(weight, ids)


def _count_optimizer_step(*_: object) -> None:
    CharEmbedding.optimizer_steps += 1


register_optimizer_step_post_hook(_count_optimizer_step)
