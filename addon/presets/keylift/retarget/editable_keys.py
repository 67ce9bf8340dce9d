import bpy

settings = bpy.context.scene.keylift

settings.path = "keep"
settings.path_on = "hips"
settings.plant_feet = True
settings.limbs = "fk"
settings.reduce = True
settings.largest_turn = 0.00872665
settings.largest_distance = 0.005
settings.markers = True
