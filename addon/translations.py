"""What the add-on says, in other languages. Blender looks labels and tooltips up by the English text.

To add a language, add its code with the texts that differ; whatever is missing stays English.
"""

from __future__ import annotations

import bpy

_GERMAN = {
    "Footage": "Filmmaterial",
    "Detect": "Erkennen",
    "Lift": "Anheben",
    "Target": "Ziel",
    "Result": "Ergebnis",
    "Capture": "Aufnehmen",
    "Re-lift": "Neu anheben",
    "Open Footage": "Filmmaterial öffnen",
    "Armature": "Armatur",
    "Lens": "Objektiv",
    "Automatic": "Automatisch",
    "From Clip": "Vom Clip",
    "Estimate": "Schätzen",
    "From File": "Aus Datei",
    "Quality": "Qualität",
    "Fast": "Schnell",
    "Balanced": "Ausgewogen",
    "Best": "Beste",
    "Repair": "Reparieren",
    "Person": "Person",
    "Pick Person": "Person wählen",
    "Weights": "Gewichte",
    "Fit": "Anpassen",
    "Adapt": "Vom Clip lernen",
    "Looks Down": "Blickt nach unten",
    "Camera Tilt": "Kameraneigung",
    "Bone Map": "Knochenzuordnung",
    "Recognise": "Erkennen",
    "Save Bone Map": "Knochenzuordnung speichern",
    "Clear Mapping": "Zuordnung leeren",
    "Path": "Weg",
    "Path On": "Weg auf",
    "Walk": "Gehen",
    "In Place": "Auf der Stelle",
    "Both": "Beides",
    "Hips": "Hüfte",
    "Plant Feet": "Füße verankern",
    "Limbs": "Gliedmaßen",
    "Reduce Keys": "Keyframes reduzieren",
    "Turn": "Drehung",
    "Contact Markers": "Kontaktmarker",
    "Run Again": "Erneut ausführen",
    "Rename Take": "Take umbenennen",
    "Delete Take": "Take löschen",
    "Push to NLA": "In die NLA schieben",
    "Import Take": "Take importieren",
    "Figure": "Figur",
    "Adapt to My Footage": "An mein Material anpassen",
    "Learn From": "Lernen von",
    "This Clip": "Diesem Clip",
    "All Clips": "Allen Clips",
    "Base": "Grundlage",
    "Minutes": "Minuten",
    "Motion": "Bewegungen",
    "Use My Corrections": "Meine Korrekturen verwenden",
    "Pause": "Pause",
    "Resume": "Fortsetzen",
    "Discard": "Verwerfen",
    "Discard Run": "Lauf verwerfen",
    "Use": "Verwenden",
    "Use Shipped Ones": "Mitgelieferte verwenden",
    "Report": "Bericht",
    "Show Report": "Bericht zeigen",
    "Remove Weights": "Gewichte entfernen",
}
_CONTEXTS = ("*", "Operator")
TRANSLATIONS = {"de_DE": {(context, text): said for text, said in _GERMAN.items() for context in _CONTEXTS}}


def register_rest() -> None:
    """Let Blender look here, too."""
    bpy.app.translations.register(__package__, TRANSLATIONS)


def unregister_rest() -> None:
    """Take the texts away."""
    bpy.app.translations.unregister(__package__)


CLASSES: tuple[type, ...] = ()
