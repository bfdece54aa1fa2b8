// Longer explanations, as they stand in docs/tab.md: `python -m docs.make_help`.

export const HELP: Record<string, string[]> = {
  "largest-eigenvalue": [
    "The largest eigenvalue is the sharpest curvature of the training loss. Solid is its course. The thick bar is its numerical bound, from the products that were spent; the thin one is the interval for the whole training set, where the report was made on a part of it. With few runs the next eigenvalues stand beside it, thinner; dotted is the most negative one.",
    "Dashed is what the optimiser can stand: of plain SGD 2 over the learning rate, of others by their own step sizes. Below it stands the ratio of both, which compares runs of all optimisers: below .8 the step size could be larger, around 1 the run is at its edge of stability, well above 1 steps grow until the loss rises or the curvature falls. The training loss beneath has the same axis of steps.",
    "What misleads: hovering at the edge is no fault, the loss goes on falling there. With small batches the largest eigenvalue stays below the edge although the steps are as large as they can be; batch sharpness is then what reaches it. Compare the curvature of two runs at equal loss only. A Ritz value that has not come to rest lies too low: its thick bar says by how much. The edge of stability says what holds of it."
  ],
  "trace": [
    "The trace is the sum of all eigenvalues: how fast the loss rises on average in a random direction, times the number of parameters. It is estimated by random probes; the bar is its 95 % interval.",
    "What misleads: intervals that overlap tell of no difference. A trace is small where large eigenvalues of both signs cancel, and it grows with the number of parameters: compare networks of one size."
  ],
  "by-layer": [
    "Each bar is one block of parameters at the step that is looked at: its trace or its largest eigenvalue, in the colours of the runs. Below stands the same over the steps of one run. The longest bar is the layer that most of the curvature sits in. `HessianSpectrum(parameter_blocks=\"modules\")` measures the traces at no further product, in reports whose products are enough for a sweep: a short fit at the defaults has none, as its notes say. `eigenvalues_per_block=1` takes products of its own for each block.",
    "What misleads: traces of blocks add up to the whole trace, eigenvalues of blocks do not: curvature between two layers is in no block. Norms of the layers' weights, which `CriticalPoint` tells, are no curvature."
  ],
  "spectral-density": [
    "How many eigenvalues lie around each value. Each row is a report, all on one axis, so that steps and runs can be compared; below, large, is the step that is looked at, with its error band of two standard errors over probes, and the eigenvalues that were found, as triangles. Most eigenvalues are a bulk at zero. To its right stand a few outliers, about one for each class but one; to its left is what still curves downwards.",
    "Heights are logarithmic, or the bulk would hide everything else, and the axis of eigenvalues is linear within the value that it names.",
    "What misleads: bumps narrower than the resolution are the kernel's, as the density is known at a few dozen places only. A report of few products has few of them: see whether the band is wide before reading a peak. Nearness to zero is rounding below a thousandth of the largest magnitude."
  ],
  "kind-of-point": [
    "How steep the loss still is, and which share of its curvature points downwards, with its bracket. Near a minimum both vanish; near a saddle the gradient does and the share does not. `CriticalPoint()` adds what is left of the gradient when the weights may move by 1 %, below .05 if a critical point is near; the kind of point, as a symbol; and, where there is a negative eigenvalue, the loss down its direction: solid as followed by forward passes, dashed as foreseen.",
    "What misleads: a small gradient alone is no evidence, as it is small on a plateau too; read what is left of it. A wide bracket says that the share is not known. On a part of the training set the point is another than on all of it. What kind of point is this? has the rules."
  ],
  "loss-difference": [
    "How far the training loss moves when one more sample is added to `k` others, with two standard errors; dotted is the root mean square. The sentence says from which number of samples on it moves by less than the threshold that you gave, and below stands that number over training, with its 95 % interval. With `surface=Surface()` there is the loss on a plane through the weights, drawn in three dimensions when it is asked for.",
    "What misleads: a network that has died, with one loss for every sample, does not move at all. Look at the loss first. Sizes beyond the samples at hand are extrapolated by the law, and say so. Is my training set big enough? says what is computed."
  ],
  "cost": [
    "For each run and callback: how many reports, how many had no numbers, how many moments were left out for want of budget, products spent, samples measured on, and all of it as a share of the training's own work. Below stands what the reports have to say in words: why there are no numbers, what qualifies a number, and what is only noted.",
    "What misleads: seconds depend on the machine and on what else it does. The share is of counted work. A number that is qualified is not quite what its name says: numbers with a note."
  ],
  "any-quantity": [
    "Every number of a report by its tag, with its error where one is known, on the axis of values that is chosen at the top."
  ]
};
