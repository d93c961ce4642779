"""The recurrent controller that searches for SpineNets by reinforcement learning (Du et al. 2020, section 3.2).

The method is that of Zoph and Le 2017: the controller makes a sequence of decisions, each depending on those before,
and REINFORCE (Williams 1992) trains the log-probabilities of a network's decisions by its score. The order of scales is
decided first.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from keras_lightdet.backbones.scale_permuted import OUTPUT_LEVELS, STEM_BLOCKS, Block, Blocks
from keras_lightdet.backbones.spinenet import STEM_KIND, WIDTHS
from keras_lightdet.backbones.spinenet_search import BASE_LEVELS, KINDS, LEVEL_SHIFTS, RECENT

Choices: TypeAlias = tuple[int, ...]  # the index of the option of each decision
INITIAL_RANGE = 0.08  # weights are initialized uniformly between minus and plus this (Zoph and Le 2017, section 4.1)
IMPOSSIBLE = -1e9  # added to the logits of options that are not allowed


class Decision(NamedTuple):
    """One step of the controller. Decisions of a group have the same options."""

    group: str  # "order", "outputs" (the order of the outputs), "parents", "output_parents", "shift" or "kind"
    block: int  # index of the block it is about


@dataclass(frozen=True)
class SearchSpace:
    """The networks of the search space as sequences of choices; each sequence is one network and vice versa."""

    levels: tuple[int, ...] = BASE_LEVELS  # of the intermediate blocks, in any order
    outputs: tuple[int, ...] = OUTPUT_LEVELS  # levels of the outputs, which come last
    recent: int = RECENT  # see `spinenet_search.RECENT`
    # Whether level shifts and kinds are chosen too. If not, all blocks are bottlenecks: the paper's scale-permuted
    # ResNets (section 5.1).
    adjusted: bool = True

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """All decisions in their order: scales, connections, adjustments."""
        inner = range(len(self.levels))
        last = range(len(inner), len(inner) + len(self.outputs))
        groups: dict[str, Sequence[int]] = {"order": inner, "outputs": last, "parents": inner, "output_parents": last}
        if self.adjusted:
            groups |= {"shift": inner, "kind": [*inner, *last]}
        return tuple(Decision(group, block) for group, blocks in groups.items() for block in blocks)

    @cached_property
    def options(self) -> dict[str, tuple[Any, ...]]:
        """The options of each group: levels, distances to the two parents, shifts or kinds."""
        before = STEM_BLOCKS + len(self.levels) + len(self.outputs) - 1  # the last block
        return {
            "order": tuple(sorted(set(self.levels))),
            "outputs": tuple(self.outputs),
            "parents": tuple(itertools.combinations(range(1, min(self.recent, before) + 1), 2)),
            "output_parents": tuple(itertools.combinations(range(1, before + 1), 2)),
            "shift": LEVEL_SHIFTS,
            "kind": KINDS,
        }

    def allowed(self, choices: Choices) -> np.ndarray:
        """Returns which options of the decision after these choices are allowed, bool `[len(options)]`."""
        group, block = self.decisions[len(choices)]
        options = self.options[group]
        if group in ("order", "outputs"):
            left = list(self.levels if group == "order" else self.outputs)
            for choice, decision in zip(choices, self.decisions, strict=False):
                if decision.group == group:
                    left.remove(options[choice])
            return np.array([level in left for level in options])
        if group in ("parents", "output_parents"):
            return np.array([second <= STEM_BLOCKS + block for _, second in options])
        return np.ones(len(options), bool)

    def blocks(self, choices: Choices) -> Blocks:
        """Returns the network of a complete sequence of choices, as `SpineNet` expects it."""
        decided = {}
        for decision, choice in zip(self.decisions, choices, strict=True):
            decided[decision] = self.options[decision.group][choice]
        blocks = []
        for block in range(len(self.levels) + len(self.outputs)):
            output, index = block >= len(self.levels), STEM_BLOCKS + block
            level = decided[Decision("outputs" if output else "order", block)]
            level = int(np.clip(level + decided.get(Decision("shift", block), 0), min(WIDTHS), max(WIDTHS)))
            near, far = decided[Decision("output_parents" if output else "parents", block)]
            kind = decided.get(Decision("kind", block), STEM_KIND)
            blocks.append(Block(level, kind, (index - far, index - near), output))
        return tuple(blocks)


class Controller:
    """A recurrent network over the decisions of a search space.

    Args:
        space: The search space.
        units: Units of the LSTM and of the embeddings of the previous choice and of the current decision.
        rate: Learning rate of Adam.
        memory: Momentum of the baseline, the moving average of the scores, from which a network's score is subtracted.
        seed: Of the initial weights.
    """

    def __init__(self, space: SearchSpace, *, units: int = 64, rate: float = 5e-3, memory: float = 0.8, seed: int = 0):
        self.space, self.memory = space, memory
        self.baseline: float | None = None
        self.decisions = space.decisions
        groups = list(dict.fromkeys(decision.group for decision in self.decisions))
        depths = {group: len(space.options[group]) for group in groups}
        starts = np.cumsum([1, *depths.values()])  # token 0 precedes the first decision
        self._first_token = dict(zip(groups, starts.tolist(), strict=False))
        self._steps = {
            group: [step for step, decision in enumerate(self.decisions) if decision.group == group] for group in groups
        }

        def uniform() -> keras.initializers.Initializer:
            draw = next(seeds)
            return keras.initializers.RandomUniform(-INITIAL_RANGE, INITIAL_RANGE, seed=draw)

        seeds = itertools.count(1000 * seed)
        self._previous = layers.Embedding(int(starts[-1]), units, embeddings_initializer=uniform())
        self._position = layers.Embedding(len(self.decisions), units, embeddings_initializer=uniform())
        self._cell = layers.LSTMCell(units, kernel_initializer=uniform(), recurrent_initializer=uniform())
        self._recurrent = layers.RNN(self._cell, return_sequences=True)
        self._heads = {group: layers.Dense(depth, kernel_initializer=uniform()) for group, depth in depths.items()}
        self._optimizer = keras.optimizers.Adam(rate)
        self.sample(1, np.random.default_rng(0))  # builds the layers

    @property
    def variables(self) -> list[keras.Variable]:
        """All weights."""
        weighted = [self._previous, self._position, self._cell, *self._heads.values()]
        return [variable for layer in weighted for variable in layer.trainable_variables]

    def sample(self, count: int, random: np.random.Generator) -> list[Choices]:
        """Draws `count` sequences of choices from the controller's distribution."""
        samples: list[Choices] = [()] * count
        tokens, states = np.zeros(count, "int32"), None
        for step, decision in enumerate(self.decisions):
            logits, states = self._next_logits(step, tokens, states)
            allowed = np.stack([self.space.allowed(choices) for choices in samples])
            # Gumbel-max trick: the argmax of logits plus Gumbel noise is a sample of the categorical distribution.
            noisy = np.where(allowed, logits + random.gumbel(size=logits.shape), -np.inf)
            next_choices = noisy.argmax(-1)
            samples = [(*choices, int(choice)) for choices, choice in zip(samples, next_choices, strict=True)]
            tokens = (self._first_token[decision.group] + next_choices).astype("int32")
        return samples

    def probabilities(self, choices: Choices) -> np.ndarray:
        """Returns the probability of each option of the decision after these choices."""
        token, states = 0, None
        for step in range(len(choices) + 1):
            logits, states = self._next_logits(step, np.array([token], "int32"), states)
            if step < len(choices):
                token = self._first_token[self.decisions[step].group] + choices[step]
        odds = np.where(self.space.allowed(choices), np.exp(logits[0] - logits[0].max()), 0.0)
        return odds / odds.sum()

    def log_probs(self, samples: Sequence[Choices]) -> tf.Tensor:
        """Returns the log-probabilities `[len(samples)]` of complete sequences."""
        return self._log_probs(*self._as_arrays(samples))

    def update(self, samples: Sequence[Choices], scores: Sequence[float]) -> None:
        """Increases the probability of the samples with scores above the baseline and decreases that of the others."""
        values = np.asarray(scores, "float32")
        mean = float(values.mean())
        baseline = mean if self.baseline is None else self.baseline
        advantages = values - np.float32(baseline)
        self._optimizer.apply(self._gradients(advantages, *self._as_arrays(samples)), self.variables)
        self.baseline = self.memory * baseline + (1 - self.memory) * mean

    def _as_arrays(self, samples: Sequence[Choices]) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Returns the tokens before each decision `[B, steps]`, the choices `[B, steps]`, and by group the masks to add
        to the logits `[B, steps of the group, options]`.
        """
        choices = np.array(samples, "int32")
        first = np.array([self._first_token[decision.group] for decision in self.decisions], "int32")
        tokens = np.concatenate([np.zeros((len(samples), 1), "int32"), (choices + first)[:, :-1]], axis=1)
        masks = {}
        for group, steps in self._steps.items():
            allowed = np.array([[self.space.allowed(sample[:step]) for step in steps] for sample in samples])
            masks[group] = np.where(allowed, 0.0, IMPOSSIBLE).astype("float32")
        return tokens, choices, masks

    def _log_probs(self, tokens: tf.Tensor, choices: tf.Tensor, masks: dict[str, tf.Tensor]) -> tf.Tensor:
        hidden = self._recurrent(self._previous(tokens) + self._position(np.arange(len(self.decisions))))
        total = 0.0
        for group, steps in self._steps.items():
            logs = ops.log_softmax(self._heads[group](ops.take(hidden, steps, axis=1)) + masks[group])
            options = ops.take(choices, steps, axis=1)[..., None]
            total = total + ops.sum(ops.take_along_axis(logs, options, axis=-1), axis=(1, 2))
        return total

    @tf.function(reduce_retracing=True)
    def _gradients(
        self, advantages: tf.Tensor, tokens: tf.Tensor, choices: tf.Tensor, masks: dict[str, tf.Tensor]
    ) -> list[tf.Tensor]:
        """Returns the gradients of minus the mean of advantage times log-probability."""
        with tf.GradientTape() as tape:
            loss = -ops.mean(advantages * self._log_probs(tokens, choices, masks))
        return tape.gradient(loss, [variable.value for variable in self.variables])

    def _next_logits(
        self, step: int, tokens: np.ndarray, states: list[tf.Tensor] | None
    ) -> tuple[np.ndarray, list[tf.Tensor]]:
        """Returns the logits `[B, options]` of a step, given the states after the one before, and the new states."""
        if states is None:
            states = self._cell.get_initial_state(batch_size=len(tokens))
        hidden, states = self._cell(self._previous(tokens) + self._position(np.array([step])), states)
        return ops.convert_to_numpy(self._heads[self.decisions[step].group](hidden)), states


def reinforce(
    score: Callable[[Blocks], float],
    *,
    rounds: int,
    batch: int = 10,
    space: SearchSpace | None = None,
    rate: float = 5e-3,
    seed: int = 0,
) -> tuple[Blocks, float]:
    """Searches for the network of the highest score as in the paper; `spinenet_search.evolve` is an alternative.

    Args:
        score: Returns the score of a network; in the paper the AP of its RetinaNet of a quarter of the width after 5
            epochs at 512 pixels.
        rounds: Networks that are scored; the paper's were found after 6,000 to 14,000.
        batch: Networks that are scored between two updates of the controller.
        space: The search space; `None` for SpineNet's.
        rate: Learning rate of the controller.
        seed: Of all random draws.

    Returns:
        The network of the highest score, and its score.

    Raises:
        ValueError: If `rounds` or `batch` is below 1.

    Reference:
        Zoph and Le, "Neural Architecture Search with Reinforcement Learning", ICLR 2017.
    """
    if rounds < 1 or batch < 1:
        raise ValueError(f"Expected rounds and batch to be 1 or more, got {rounds!r} and {batch!r}.")
    space = space or SearchSpace()
    controller, random = Controller(space, rate=rate, seed=seed), np.random.default_rng(seed)
    scored: list[tuple[Blocks, float]] = []
    for start in range(0, rounds, batch):
        samples = controller.sample(min(batch, rounds - start), random)
        newest = [(blocks, score(blocks)) for blocks in map(space.blocks, samples)]
        controller.update(samples, [value for _, value in newest])
        scored += newest
    return max(scored, key=lambda candidate: candidate[1])
