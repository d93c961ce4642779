"""The controller that searched for SpineNet: a recurrent network that learns by reinforcement which graphs score well.

Du et al. 2020, section 3.2, name the space and the method, that of Zoph and Le 2017: the network makes one decision
after another, each by what was decided before it, and the log-probabilities of a graph's decisions are trained by its
score (REINFORCE, Williams 1992). The whole order of scales is decided first.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from keras_lightdet.backbones.scale_permuted import OUTPUT_LEVELS, STEM_BLOCKS, Block
from keras_lightdet.backbones.spinenet import STEM_KIND, WIDTHS
from keras_lightdet.backbones.spinenet_search import BASE_LEVELS, KINDS, LEVEL_SHIFTS, RECENT

Choices = tuple[int, ...]
INITIAL_RANGE = 0.08  # weights start uniform between minus and plus this (Zoph and Le 2017, section 4.1)
IMPOSSIBLE = -1e9  # added to the logit of what may not be chosen


class Decision(NamedTuple):
    """One step of the controller.

    Attributes:
        part: What is decided: "order", "outputs" (the order of these), "parents", "output_parents", "shift" or "kind".
        block: Of which block of the permuted part.
    """

    part: str
    block: int


@dataclass(frozen=True)
class SearchSpace:
    """Which graphs there are, as sequences of choices: every sequence is one graph, every graph one sequence.

    Attributes:
        levels: Of the blocks that are no outputs, in any order.
        outputs: Levels of the outputs, which come last.
        recent: A block that is no output takes its parents from so many blocks before it, an output from all.
        adjusted: Whether levels are shifted and kinds chosen too, as in SpineNet; in its ablation, the permuted
            ResNets, they are not, and all blocks are bottlenecks.
    """

    levels: tuple[int, ...] = BASE_LEVELS
    outputs: tuple[int, ...] = OUTPUT_LEVELS
    recent: int = RECENT
    adjusted: bool = True

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """In the order they are made: the scales, the connections, the adjustments."""
        inner = range(len(self.levels))
        last = range(len(inner), len(inner) + len(self.outputs))
        parts = [("order", inner), ("outputs", last), ("parents", inner), ("output_parents", last)]
        if self.adjusted:
            parts += [("shift", inner), ("kind", [*inner, *last])]
        return tuple(Decision(part, block) for part, blocks in parts for block in blocks)

    @cached_property
    def options(self) -> dict[str, tuple]:
        """What the numbers chosen in a part stand for: levels, distances to the two parents, shifts or kinds."""
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
        """Returns which options the decision after these choices has, `[len(options)]` of bool."""
        part, block = self.decisions[len(choices)]
        options = self.options[part]
        if part in ("order", "outputs"):
            left = list(self.levels if part == "order" else self.outputs)
            for choice, decision in zip(choices, self.decisions, strict=False):
                if decision.part == part:
                    left.remove(options[choice])
            return np.array([level in left for level in options])
        if part in ("parents", "output_parents"):
            return np.array([second <= STEM_BLOCKS + block for _, second in options])
        return np.ones(len(options), bool)

    def blocks(self, choices: Choices) -> tuple[Block, ...]:
        """Returns the graph of a whole sequence of choices, as `SpineNet` takes it."""
        said = {}
        for decision, choice in zip(self.decisions, choices, strict=True):
            said[decision] = self.options[decision.part][choice]
        found = []
        for block in range(len(self.levels) + len(self.outputs)):
            output, index = block >= len(self.levels), STEM_BLOCKS + block
            level = said[Decision("outputs" if output else "order", block)] + said.get(Decision("shift", block), 0)
            distances = said[Decision("output_parents" if output else "parents", block)]
            parents = tuple(sorted(index - distance for distance in distances))
            kind = said.get(Decision("kind", block), STEM_KIND)
            found.append(Block(int(np.clip(level, min(WIDTHS), max(WIDTHS))), kind, parents, output))
        return tuple(found)


class Controller:
    """A recurrent network over a space's decisions.

    Args:
        space: What it decides.
        units: Of its LSTM, and of what it knows about the decision before and the one at hand.
        rate: Of Adam.
        memory: Share of the baseline that one update keeps; the baseline is the mean score so far, to which a
            graph's score is compared.
        seed: Of the first weights.
    """

    def __init__(self, space: SearchSpace, *, units: int = 64, rate: float = 5e-3, memory: float = 0.8, seed: int = 0):
        self.space, self.memory = space, memory
        self.baseline = None
        self.decisions = space.decisions
        parts = list(dict.fromkeys(decision.part for decision in self.decisions))
        depths = {part: len(space.options[part]) for part in parts}
        starts = np.cumsum([1, *depths.values()])  # token 0 stands before the first decision
        self._first_token = dict(zip(parts, starts.tolist(), strict=False))
        self._steps = {part: [step for step, each in enumerate(self.decisions) if each.part == part] for part in parts}

        def uniform() -> keras.initializers.Initializer:
            draw = next(seeds)
            return keras.initializers.RandomUniform(-INITIAL_RANGE, INITIAL_RANGE, seed=draw)

        seeds = itertools.count(1000 * seed)
        self._before = layers.Embedding(int(starts[-1]), units, embeddings_initializer=uniform())
        self._place = layers.Embedding(len(self.decisions), units, embeddings_initializer=uniform())
        self._cell = layers.LSTMCell(units, kernel_initializer=uniform(), recurrent_initializer=uniform())
        self._recur = layers.RNN(self._cell, return_sequences=True)
        self._heads = {part: layers.Dense(depth, kernel_initializer=uniform()) for part, depth in depths.items()}
        self._optimizer = keras.optimizers.Adam(rate)
        self.sample(1, np.random.default_rng(0))  # builds the layers

    @property
    def variables(self) -> list[keras.Variable]:
        """All weights."""
        used = [self._before, self._place, self._cell, *self._heads.values()]
        return [variable for layer in used for variable in layer.trainable_variables]

    def sample(self, count: int, random: np.random.Generator) -> list[Choices]:
        """Draws sequences of choices by their probabilities.

        Args:
            count: How many.
            random: Makes the draws.
        """
        drawn = [()] * count
        tokens, states = np.zeros(count, "int32"), None
        for step, decision in enumerate(self.decisions):
            logits, states = self._next_logits(step, tokens, states)
            allowed = np.stack([self.space.allowed(each) for each in drawn])
            # The largest of logits and Gumbel noise falls on each option as often as its probability says.
            noisy = np.where(allowed, logits + random.gumbel(size=logits.shape), -np.inf)
            chosen = noisy.argmax(-1)
            drawn = [(*each, int(choice)) for each, choice in zip(drawn, chosen, strict=True)]
            tokens = (self._first_token[decision.part] + chosen).astype("int32")
        return drawn

    def probabilities(self, choices: Choices) -> np.ndarray:
        """Returns the probability of each option of the decision after these choices."""
        token, states = 0, None
        for step in range(len(choices) + 1):
            logits, states = self._next_logits(step, np.array([token], "int32"), states)
            if step < len(choices):
                token = self._first_token[self.decisions[step].part] + choices[step]
        odds = np.where(self.space.allowed(choices), np.exp(logits[0] - logits[0].max()), 0.0)
        return odds / odds.sum()

    def log_probs(self, drawn: Sequence[Choices]):
        """Returns the log-probabilities of whole sequences, a tensor `[len(drawn)]`."""
        return self._log_probs(*self._as_arrays(drawn))

    def update(self, drawn: Sequence[Choices], scores: Sequence[float]) -> None:
        """Makes sequences that scored above the baseline more likely, and those below less.

        Args:
            drawn: What `sample` gave.
            scores: Of their graphs.
        """
        scores = np.asarray(scores, "float32")
        mean = float(scores.mean())
        self.baseline = mean if self.baseline is None else self.baseline
        advantages = scores - np.float32(self.baseline)
        self._optimizer.apply(self._gradients(advantages, *self._as_arrays(drawn)), self.variables)
        self.baseline = self.memory * self.baseline + (1 - self.memory) * mean

    def _as_arrays(self, drawn: Sequence[Choices]) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """What is known before each decision `[B, steps]`, what is chosen `[B, steps]`, and, by part, what is added to
        the logits `[B, steps of the part, options]`.
        """
        chosen = np.array(drawn, "int32")
        first = np.array([self._first_token[decision.part] for decision in self.decisions], "int32")
        tokens = np.concatenate([np.zeros((len(drawn), 1), "int32"), (chosen + first)[:, :-1]], axis=1)
        added = {}
        for part, steps in self._steps.items():
            allowed = np.array([[self.space.allowed(each[:step]) for step in steps] for each in drawn])
            added[part] = np.where(allowed, 0.0, IMPOSSIBLE).astype("float32")
        return tokens, chosen, added

    def _log_probs(self, tokens, chosen, added):
        hidden = self._recur(self._before(tokens) + self._place(np.arange(len(self.decisions))))
        total = 0.0
        for part, steps in self._steps.items():
            logs = ops.log_softmax(self._heads[part](ops.take(hidden, steps, axis=1)) + added[part])
            made = ops.take(chosen, steps, axis=1)[..., None]
            total = total + ops.sum(ops.take_along_axis(logs, made, axis=-1), axis=(1, 2))
        return total

    @tf.function(reduce_retracing=True)
    def _gradients(self, advantages, tokens, chosen, added):
        """Of minus the expected advantage."""
        with tf.GradientTape() as tape:
            loss = -ops.mean(advantages * self._log_probs(tokens, chosen, added))
        return tape.gradient(loss, [variable.value for variable in self.variables])

    def _next_logits(self, step: int, tokens: np.ndarray, states) -> tuple[np.ndarray, list]:
        """The decision of a step after those that led to `states`: logits `[B, options]`, and the new states."""
        if states is None:
            states = self._cell.get_initial_state(batch_size=len(tokens))
        hidden, states = self._cell(self._before(tokens) + self._place(np.array([step])), states)
        return ops.convert_to_numpy(self._heads[self.decisions[step].part](hidden)), states


def reinforce(
    score: Callable[[tuple[Block, ...]], float],
    *,
    rounds: int,
    batch: int = 10,
    space: SearchSpace | None = None,
    rate: float = 5e-3,
    seed: int = 0,
) -> tuple[tuple[Block, ...], float]:
    """Searches for the graph of the highest score as the paper does; `spinenet_search.evolve` is the other way.

    Args:
        score: Of a graph: in the paper the AP of its RetinaNet of a quarter of the width after 5 epochs at 512 pixels.
        rounds: Graphs that are scored; the paper's were found after 6,000 to 14,000.
        batch: Graphs that are scored between two updates of the controller.
        space: What may be chosen; SpineNet's.
        rate: Of the controller's Adam.
        seed: Of all draws.

    Returns:
        The best graph that was scored, and its score.

    Raises:
        ValueError: If `rounds` or `batch` is below 1.

    Reference:
        Zoph and Le, "Neural Architecture Search with Reinforcement Learning", ICLR 2017.
    """
    if rounds < 1 or batch < 1:
        raise ValueError(f"Expected rounds and batch to be 1 or more, got {rounds!r} and {batch!r}.")
    space = space or SearchSpace()
    controller, random = Controller(space, rate=rate, seed=seed), np.random.default_rng(seed)
    best = None
    for start in range(0, rounds, batch):
        drawn = controller.sample(min(batch, rounds - start), random)
        scored = [(blocks, score(blocks)) for blocks in map(space.blocks, drawn)]
        controller.update(drawn, [value for _, value in scored])
        best = max([*([best] if best else []), *scored], key=lambda pair: pair[1])
    return best
