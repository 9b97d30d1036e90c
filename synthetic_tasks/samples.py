"""Some hundred plain words, for looking at the tasks without a word list."""

from __future__ import annotations

_WORDS = """
accordion adventure alligator apple apron arrow asparagus astronaut autumn avalanche baker balloon banana
barley basket beaver beetle berry bicycle binoculars biscuit blackberry blanket blossom blueberry bottle
boulevard branch bread breeze bridge broccoli broom bubble bucket butter buttercup butterfly button cabbage
cable cactus camel campfire candle canoe canvas carpet carrot castle caterpillar cauliflower cedar cellar
chandelier cherry chimney chocolate cinnamon circle clarinet classroom clover cobbler coffee comet compass
constellation copper coral cotton cousin cradle cranberry crayon cricket crocodile crystal cucumber curtain
cushion daffodil dancer dandelion desert diamond dinner dolphin donkey dragon drawer drummer eagle early
elbow elderberry elephant emerald engine equal escalator evening expedition fabric falcon farmer feather
fiddle finger firefly fireplace flame flannel flower forest fossil fountain fox freckle galaxy garden garlic
gather gentle giant ginger gingerbread giraffe glacier glove grammar granite grape grasshopper gravel
greenhouse guitar hammer hammock harbor harmonica harvest hazel helmet heron hollow honey honeycomb horizon
hummingbird hurricane island ivory jacket jaguar jelly jewel jigsaw jungle juniper kangaroo kettle kidney
kitchen kitten ladder lagoon lantern lavender leather lemon leopard letter lettuce lighthouse lilac linen
lizard lobster locket locomotive mackerel magnet mango maple marble marmalade meadow melon microscope mirror
mitten monkey moonlight morning mosaic mountain muffin museum mustard napkin needle nephew nettle nickel
nightingale notebook nutmeg oatmeal ocean olive onion orange orchard orchestra otter oxygen oyster paddle
painter palace panda paper parrot pasture peach peanut pebble pelican pencil pepper piano pickle pigeon
pillow pineapple pirate planet plaza pocket pomegranate poppy porcupine potato pottery prairie pretzel
puddle puppet puzzle quarry quartz queen quiet quilt quiver rabbit raccoon radish rainbow raisin raspberry
rectangle restaurant rhinoceros rhubarb ribbon riddle river robin rocket rooster saddle saffron salad sandal
satchel saxophone scarf school seagull seahorse season shadow shelter silver sister sketch skyscraper sleeve
slipper smoke snail snowflake soccer spinach spiral squash squirrel stadium station stencil strawberry
stream submarine summer sunset swallow sweater syrup table tadpole tambourine teapot telescope temple
thermometer thimble thistle thunder tiger timber toffee tomato toothbrush tortoise tractor trampoline
trumpet tulip tunnel turnip turtle twelve twilight umbrella uncle understand valley vanilla vegetable velvet
violin vision volcano voyage waffle wagon walnut walrus waterfall watermelon weasel weather wheelbarrow
whistle wilderness willow window winter wizard wolf wonder woodpecker woolen xylophone yarn yellow yogurt
zebra zigzag zipper zoology
"""
SAMPLE_WORDS = tuple(_WORDS.split())
