"""Nets of timm for tests: small ones for every day, and more than twenty families."""

from __future__ import annotations

# timm's own nets for tests, with less than half a million parameters: (name, px).
SMALL = (
    ("test_resnet", 64),
    ("test_efficientnet", 64),
    ("test_convnext", 64),
    ("test_vit", 64),
    ("test_nfnet", 96),
    ("test_byobnet", 64),
)
FAMILIES = (
    ("resnet10t", 64),
    ("resnetv2_50", 64),
    ("seresnet18", 64),
    ("convnext_atto", 64),
    ("convnextv2_atto", 64),
    ("vit_tiny_patch16_224", 64),
    ("deit_tiny_distilled_patch16_224", 64),
    ("eva02_tiny_patch14_224", 56),
    ("swin_tiny_patch4_window7_224", 112),
    ("maxvit_rmlp_pico_rw_256", 128),
    ("efficientnet_b0", 64),
    ("tf_efficientnet_lite0", 64),
    ("mobilenetv3_small_050", 64),
    ("mobilenetv4_conv_small", 64),
    ("regnety_002", 64),
    ("repvgg_a0", 64),
    ("densenet121", 64),
    ("vgg11_bn", 64),
    ("ghostnet_050", 64),
    ("mixer_s32_224", 64),
    ("poolformer_s12", 64),
    ("edgenext_xx_small", 64),
    ("mobilevit_xxs", 64),
    ("cait_xxs24_224", 64),
    ("pit_ti_224", 96),
    ("efficientvit_b0", 64),
    ("fastvit_t8", 64),
    ("mambaout_femto", 64),
    ("dla34", 64),
    ("crossvit_tiny_240", 240),
    ("efficientformer_l1", 224),
    ("repvit_m0_9", 64),
)
