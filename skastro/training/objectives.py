"""What is trained: objectives, and one step of training on the rows of a batch that this process has."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import get_ema_multi_avg_fn

from skastro import ranks
from skastro.training.process import Randomness, bfloat16

__all__ = ["AsGiven", "Learner", "Objective", "ema_update"]


class Objective(nn.Module):
    """Base class of the objectives: modules that compute a loss from the views of a batch and from targets by name.

    Subclasses define ``forward``, and keep state between steps in buffers. For a loss of several parts, ``forward``
    stores each in ``parts``, by name, for the history.
    """

    def __init__(self) -> None:
        super().__init__()
        self.parts: dict[str, Tensor] = {}

    def schedule(self, step: int, steps: int) -> None:
        """Update schedules before a step. By default, nothing; objectives with schedules of their own override this.

        Parameters
        ----------
        step : int
            Number of the step, from 0.
        steps : int
            Total number of steps.
        """

    def update(self, rate: float) -> None:
        """Update the target network after a step. By default, nothing; objectives with a target network override this.

        Parameters
        ----------
        rate : float
            Fraction of the target to keep.
        """

    def lr_scales(self) -> dict[str, float]:
        """Return the factors on the learning rate of parameters, by name, where they are not 1.

        Returns
        -------
        dict
        """
        return {}


def ema_update(target: nn.Module, online: nn.Module, rate: float) -> None:
    """Move a target network towards the online one, including batch-norm statistics.

    Parameters
    ----------
    target : nn.Module
        Target network, changed in place.
    online : nn.Module
        A network of the same architecture.
    rate : float
        Fraction of the target to keep.

    Examples
    --------
    >>> import torch
    >>> from skastro.training import ema_update
    >>> target, online = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    >>> ema_update(target, online, 0.0)
    >>> bool((target.weight == online.weight).all())
    True
    """
    old, new = list(target.state_dict().values()), list(online.state_dict().values())
    get_ema_multi_avg_fn(rate)(
        [tensor for tensor in old if tensor.is_floating_point()],
        [tensor for tensor in new if tensor.is_floating_point()],
        None,
    )


class AsGiven(nn.Module):
    """Return the arrays of the batch as they are, for inputs that need no views.

    Parameters
    ----------
    *inputs : str
        Names of the arrays, in the order in which the network takes them; names that a batch lacks are skipped.
    """

    def __init__(self, *inputs: str) -> None:
        super().__init__()
        self.inputs = inputs

    def forward(self, **batch: Tensor) -> list[Tensor]:
        """Return the arrays in order.

        Parameters
        ----------
        **batch : Tensor
            Arrays by name.

        Returns
        -------
        list of Tensor
        """
        return [batch[name] for name in self.inputs if name in batch]


class Learner(nn.Module):
    """One step of training: draw views, run the objective, on this rank's rows of the batch.

    Parameters
    ----------
    objective : Objective
        Module from views (and targets by name) to a loss.
    views : callable
        Function from the arrays of the batch named by its ``inputs`` to a sequence of views.
    draws : Randomness
        Source of what the objective draws.
    bf16 : bool
        If True, run the objective under bfloat16 autocast.

    Attributes
    ----------
    rows : int
        Rows of the last batch, over all ranks.
    """

    def __init__(self, objective: Objective, views: Any, draws: Randomness, bf16: bool) -> None:
        super().__init__()
        self.objective = objective
        self.views = views
        self.draws = draws
        self.bf16 = bf16
        self.rows = 0
        self._shared: tuple[nn.Module, ...] = ()  # in a tuple, so that it is no part of this module

    def distribute(self) -> None:
        """Let all ranks begin with the weights of the first, and take the mean of their gradients, if there are any."""
        if ranks.world_size() > 1:
            self._shared = (DistributedDataParallel(_Together(self.objective), find_unused_parameters=True),)

    def forward(self, **batch: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Parameters
        ----------
        **batch : Tensor
            Arrays by name: those for the views, and targets.

        Returns
        -------
        Tensor
            A scalar.
        """
        first = next(iter(batch.values()))
        device, own = first.device, len(first)
        taken = {name: batch.pop(name) for name in self.views.inputs if name in batch}
        with ranks.shared(own, device) if self._shared else nullcontext(), self.draws.installed():
            torch.clear_autocast_cache()  # within an autocast of the user's, it would outlive the step, weights and all
            with torch.no_grad():
                views = self.views(**taken)
            with bfloat16(device, self.bf16):
                loss = (*self._shared, self.objective)[0](*views, **batch)
            self.rows = ranks.whole(own)
            return self._of_all(loss) if self._shared else loss

    def _of_all(self, loss: Tensor) -> Tensor:
        """Let losses have the values of the whole batch; gradients are those of this rank."""
        self.objective.parts = {name: ranks.mean(part) for name, part in self.objective.parts.items()}
        return loss + (ranks.mean(loss) - loss.detach())


class _Together(nn.Module):
    """An objective of which some parameters may have no part in a step, beside one that never has."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective
        # Where all parameters have a part, torch advises the user to leave out the search for those that have none.
        self.idle = nn.Parameter(torch.zeros(1, device=next(objective.parameters()).device))

    def forward(self, *views: Tensor, **batch: Tensor) -> Tensor:
        return self.objective(*views, **batch)
