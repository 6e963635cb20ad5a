from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread

from ranet.calibration import ExitPolicy
from ranet.errors import UserError
from ranet.evaluation import anytime_curve, budgeted_curve, difficulty_table, published_points
from ranet.evaluation.figures.curves import anytime_figure, budgeted_figure, difficulty_figure, shares_figure
from ranet.evaluation.figures.gallery import as_picture, gallery_figure
from ranet.evaluation.figures.style import save_figure


def colors_of(figure: Figure, path: Path) -> set[int]:
    """Save the figure, decode it, and say which colours it has."""
    save_figure(figure, path)
    pixels = (255 * imread(path)).round().astype(np.int64)
    assert pixels.shape[0] * pixels.shape[1] > 500_000, "300 dpi"
    return set(np.unique(pixels[..., :3] @ [1 << 16, 1 << 8, 1]).tolist())


@pytest.fixture
def policy(scored) -> ExitPolicy:
    return budgeted_curve(scored.validation, scored.test, scored.costs).policy(19)


def test_the_anytime_figure_has_ours_and_both_published_curves(scored, tmp_path):
    curve = anytime_curve(scored.test, scored.costs)
    figure = anytime_figure(curve, "paper_ops", published_points("cifar10"), title="A network on data")
    colors = colors_of(figure, tmp_path / "anytime.png")
    assert {0x0072B2, 0xD55E00, 0x009E73} <= colors
    (axes,) = figure.axes
    assert axes.get_xlabel() == "cost per image [M multiply-adds (paper ops)]"
    ours = axes.get_lines()[0]
    np.testing.assert_allclose(ours.get_xdata(), scored.costs / 1e6)
    np.testing.assert_allclose(ours.get_ydata(), 100 * curve.top1)
    ranet = next(line for line in axes.get_lines() if "RANet" in str(line.get_label()))
    assert (ranet.get_xdata()[0], ranet.get_ydata()[0]) == (15.8, 91.34)


def test_the_budgeted_figure_has_the_sweep_and_the_budgeted_points(scored, tmp_path):
    curve, anytime = budgeted_curve(*scored), anytime_curve(scored.test, scored.costs)
    figure = budgeted_figure(curve, anytime, "paper_ops", published_points("cifar10"))
    assert len(colors_of(figure, tmp_path / "budgeted.png")) > 50
    lines = {str(line.get_label()): line for line in figure.axes[0].get_lines()}
    assert len(lines["ours, geometric policy"].get_xdata()) == 39
    assert len(lines["published RANet (figure reading)"].get_xdata()) == 9


@pytest.mark.parametrize("name", ["ours", "a network with quite a long name"])
def test_the_legend_hides_nothing(name, scored):
    """It stands below the axes, their labels included, and within the figure."""
    curve, anytime = budgeted_curve(*scored), anytime_curve(scored.test, scored.costs)
    points = published_points("cifar10")
    for figure in (
        anytime_figure(anytime, "macs", points, name=name),
        budgeted_figure(curve, anytime, "macs", points, name=name),
        shares_figure(curve, scored.costs, "macs"),
    ):
        figure.draw_without_rendering()
        legend = figure.legends[0].get_window_extent()
        assert legend.y1 <= figure.axes[0].get_tightbbox().y0
        assert legend.x0 >= 0
        assert legend.x1 <= figure.bbox.x1


def test_shares_fill_the_whole_at_every_budget(scored, tmp_path):
    figure = shares_figure(budgeted_curve(*scored), scored.costs, "macs")
    assert len(colors_of(figure, tmp_path / "shares.png")) > 50
    top = figure.axes[0].collections[-1].get_paths()[0].vertices[:, 1].max()
    assert top == pytest.approx(1.0)
    assert len(figure.axes[0].collections) == 4


def test_the_gallery_has_a_row_for_each_exit(scored, pictures, policy, class_names, tmp_path):
    figure = gallery_figure(policy, scored.test, pictures, class_names, columns=6)
    assert len(colors_of(figure, tmp_path / "gallery.png")) > 1000
    grid = np.array(figure.axes).reshape(4, 6)
    left_at = policy.exits(scored.test)
    for k, row in enumerate(grid):
        shown = {axes.images[0].get_array().tobytes() for axes in row if axes.images}
        here = {pictures[i].transpose(1, 2, 0).tobytes() for i in np.flatnonzero(left_at == k)}
        assert shown
        assert shown <= here, "every picture left at the exit of its row"


def test_the_choice_of_the_gallery_is_seeded(scored, pictures, policy):
    def first(seed: int) -> bytes:
        return (
            gallery_figure(policy, scored.test, pictures, columns=3, seed=seed).axes[0].images[0].get_array().tobytes()
        )

    assert first(0) == first(0)
    assert len({first(seed) for seed in range(5)}) > 1


def test_an_exit_where_no_image_leaves_has_an_empty_row(scored, pictures):
    figure = gallery_figure(ExitPolicy((np.inf,) * 3), scored.test, pictures, columns=3)
    assert sum(len(axes.images) for axes in figure.axes) == 3
    assert "no images" in figure.axes[0].texts[0].get_text()


@pytest.mark.parametrize(
    "image",
    [
        np.full((4, 5), 128, np.uint8),
        np.full((4, 5, 3), 128, np.uint8),
        np.full((3, 4, 5), 128, np.uint8),
        torch.full((1, 4, 5), 128 / 255),
        torch.full((3, 4, 5), 128 / 255),
    ],
)
def test_pictures_of_any_layout_are_shown(image):
    picture = as_picture(image)
    assert picture.shape == (4, 5, 3)
    assert (picture == 128).all()


def test_difficulty_groups_by_size(scored, policy, tmp_path):
    sizes = np.repeat([12.0, 20.0, 28.0], scored.test.num_images // 3)
    table = difficulty_table(policy, scored.test, scored.costs, sizes)
    assert table.low.tolist() == table.high.tolist() == [12, 20, 28]
    exits = policy.exits(scored.test)
    for s, size in enumerate((12, 20, 28)):
        chosen = exits[sizes == size]
        assert table.mean_cost[s] == pytest.approx(scored.costs[chosen].mean())
        right = scored.test.correct[exits, np.arange(len(exits))][sizes == size]
        assert table.accuracy[s] == pytest.approx(right.mean())
    figure = difficulty_figure(table, scored.costs, "macs", "height [pixels]")
    assert len(colors_of(figure, tmp_path / "difficulty.png")) > 50


def test_many_sizes_make_groups_of_about_equal_numbers(scored, policy):
    sizes = np.random.default_rng(0).exponential(size=scored.test.num_images)
    table = difficulty_table(policy, scored.test, scored.costs, sizes, bins=5)
    assert table.images.sum() == scored.test.num_images
    assert abs(table.images - scored.test.num_images / 5).max() <= 2


def test_pictures_names_and_sizes_that_do_not_belong_are_named(scored, pictures, policy):
    with pytest.raises(UserError, match="300 scored images in order, not 10"):
        gallery_figure(policy, scored.test, pictures[:10])
    with pytest.raises(UserError, match="a name for each of 10 classes, not 2"):
        gallery_figure(policy, scored.test, pictures, ["cat", "dog"])
    with pytest.raises(UserError, match="one size for each"):
        difficulty_table(policy, scored.test, scored.costs, [1.0, 2.0])


def test_the_style_of_the_reader_is_left_alone(scored):
    before = dict(mpl.rcParams)
    anytime_figure(anytime_curve(scored.test, scored.costs), "macs")
    assert dict(mpl.rcParams) == before
