"""STUB"""

from lightning_hessian.linalg import measure_spectrum


def quick_spectrum(loss, *, num_products, recycled, num_eigenvalues, trace, generator, population):
    s = measure_spectrum(
        loss.products,
        num_eigenvalues=min(num_eigenvalues, num_products),
        num_smallest=0,
        trace=False,
        density=False,
        max_hvps=num_products,
        probes_per_block=1,
        generator=generator,
        vectors=True,
    )

    class F:
        pass

    f = F()
    f.largest = s.largest
    f.trace = None
    f.sampling = None
    f.vectors = s.vectors
    f.num_hvps = s.num_hvps
    f.notes = s.notes
    return f
