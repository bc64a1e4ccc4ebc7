"""The page of the demo application, in Gradio. It asks no other host for anything: no fonts, scripts or statistics."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

# Read when Gradio is imported.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

from mfm_hf.commands._demo_result import caption, legend, pictures, segment_file
from mfm_hf.commands._segmenter import Segmenter

OPACITY = 0.55
CSS = Path(__file__).with_name("demo_page.css")
TITLE = "Semantic segmentation"
HINT = "Drop an image, or take an example. Drag the line to compare."


def build_page(segmenters: Sequence[Segmenter], examples: Sequence[Path], max_pixels: int) -> gr.Blocks:
    """Build the page, with the first example segmented.

    Args:
        segmenters: One checkpoint, or two of the same classes; then the first is on the left.
        examples: Image files to try, at least one.
        max_pixels: Larger images are shrunk to this many pixels at most.

    Raises:
        ValueError: If two checkpoints have different classes.
    """
    _check_classes(segmenters)
    first = segment_file(examples[0], segmenters, max_pixels)

    def show_file(file: str, opacity: float) -> tuple[Any, ...]:
        try:
            result = segment_file(Path(file), segmenters, max_pixels)
        except ValueError as error:
            return gr.skip(), None, gr.HTML(_message(str(error)), visible=True), gr.skip(), gr.skip(), gr.skip()
        return result, None, gr.HTML(visible=False), pictures(result, opacity), caption(result), legend(result)

    def show_example(index: int, opacity: float) -> tuple[Any, ...]:
        return show_file(str(examples[index]), opacity)

    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        result = gr.State(first)
        gr.HTML(f"<header><h1>{TITLE}</h1><p>{HINT}</p></header>", padding=False)
        with gr.Row():
            with gr.Column(scale=1, min_width=280, elem_id="controls"):
                # gr.Image would open the file itself, and say of a bad one no more than "Error".
                drop = gr.File(file_types=["image"], label="Your image", height=170, elem_id="drop")
                opacity = gr.Slider(0, 1, OPACITY, step=0.05, label="Opacity", elem_id="opacity")
                example = gr.Dataset(
                    components=[gr.Image(render=False)],
                    samples=[[str(path)] for path in examples],
                    type="index",
                    label="Examples",
                    elem_id="examples",
                )
            with gr.Column(scale=3, min_width=320, elem_id="result"):
                message = gr.HTML(visible=False, padding=False, elem_id="message")
                gr.HTML(_sides(segmenters), padding=False)
                slider = gr.ImageSlider(
                    pictures(first, OPACITY),
                    format="png",
                    show_label=False,
                    max_height=640,
                    buttons=["download", "fullscreen"],
                    elem_id="pictures",
                )
                below = gr.HTML(caption(first), padding=False)
                classes = gr.HTML(legend(first), padding=False, elem_id="legend")
        outputs = [result, drop, message, slider, below, classes]
        # What a user did last is what counts.
        options = {"trigger_mode": "always_last", "api_visibility": "private"}
        drop.upload(show_file, [drop, opacity], outputs, show_progress_on=slider, **options)
        example.click(show_example, [example, opacity], outputs, show_progress_on=slider, **options)
        opacity.input(pictures, [result, opacity], slider, show_progress="hidden", **options)
    return page


def build_error_page(error: Exception) -> gr.Blocks:
    """Build a page that says in one line why there is nothing to try."""
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.HTML(f"<header><h1>{TITLE}</h1></header>", padding=False)
        gr.HTML(_message(str(error)), padding=False)
    return page


def launch(page: gr.Blocks, **options: Any) -> str:
    """Serve a page.

    Args:
        page: What `build_page` or `build_error_page` returned.
        options: More options of `gradio.Blocks.launch`.

    Returns:
        Its address.

    Raises:
        OSError: If the port cannot be used.
    """
    font, mono = ("system-ui", "sans-serif"), ("ui-monospace", "monospace")
    theme = gr.themes.Base(primary_hue="teal", neutral_hue="slate", radius_size="lg", font=font, font_mono=mono)
    fixed = {"theme": theme, "css_paths": CSS, "footer_links": [], "ssr_mode": False}
    _, url, _ = page.launch(max_file_size="100mb", quiet=True, **fixed, **options)
    return url


def short_names(segmenters: Sequence[Segmenter]) -> list[str]:
    """Return what the checkpoints are called on the page: folders by their last part, where that tells them apart."""
    names = [Path(segmenter.name).name if Path(segmenter.name).is_dir() else segmenter.name for segmenter in segmenters]
    return names if len(set(names)) == len(names) else [segmenter.name for segmenter in segmenters]


def _check_classes(segmenters: Sequence[Segmenter]) -> None:
    first, last = segmenters[0], segmenters[-1]
    if first.classes != last.classes:
        raise ValueError(
            f"{first.name} and {last.name} cannot be compared: "
            f"they have different classes ({len(first.classes)} and {len(last.classes)})"
        )


def _sides(segmenters: Sequence[Segmenter]) -> str:
    names = short_names(segmenters)
    left, right = map(escape, names if len(names) == 2 else ["image", *names])
    return f'<div class="sides"><span class="left">{left}</span><span class="right">{right}</span></div>'


def _message(text: str) -> str:
    return f'<p class="message" role="alert">{escape(" ".join(text.split()))}</p>'
