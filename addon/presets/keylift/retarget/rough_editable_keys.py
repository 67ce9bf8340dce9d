import bpy

settings = bpy.context.scene.keylift

settings.path = "keep"
settings.path_on = "hips"
settings.plant_feet = True
settings.limbs = "fk"
settings.reduce = True
settings.largest_turn = 0.0349066
settings.largest_distance = 0.015
settings.markers = True
