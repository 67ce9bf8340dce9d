import bpy

settings = bpy.context.scene.keylift

settings.path = "both"
settings.path_on = "root"
settings.plant_feet = True
settings.limbs = "fk"
settings.reduce = False
settings.largest_turn = 0.00872665
settings.largest_distance = 0.005
settings.markers = False
