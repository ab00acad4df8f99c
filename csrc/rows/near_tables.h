/* e^r for |r| <= ln 2 / 2: coefficients of r^0 .. r^5. erf(|x| / sqrt 2): of t^0 .. t^4, each for i = 0..15,
   where t = GELU_STEPS |x| - i, |t| <= 1/2; 1 from GELU_FLAT on. Made by tools/make_near_tables.py. */
#ifndef REFVIT_NEAR_TABLES_H
#define REFVIT_NEAR_TABLES_H

#define GELU_STEPS 2.875f
#define GELU_FLAT 5.375f

static const float exp_near_table[6] =
    {0x1.000002p+0f, 0x1.p+0f, 0x1.fffd0ap-2f, 0x1.55547cp-3f, 0x1.576362p-5f, 0x1.123d82p-7f};

static const float gelu_near_table[5][16] = {
    {-0x1.4e1006p-61f, 0x1.168ed2p-2f, 0x1.06d63ep-1f, 0x1.68136cp-1f, 0x1.abf6bep-1f, 0x1.d6028cp-1f, 0x1.ed1c7cp-1f,
     0x1.f85eeep-1f, 0x1.fd3d36p-1f, 0x1.ff1b38p-1f, 0x1.ffbddap-1f, 0x1.ffeefp-1f, 0x1.fffc14p-1f, 0x1.ffff32p-1f,
     0x1.ffffdap-1f, 0x1.fffffap-1f},
    {0x1.1c2f04p-2f, 0x1.0b80c6p-2f, 0x1.be37ep-3f, 0x1.49c1e2p-3f, 0x1.afd8a8p-4f, 0x1.f51864p-5f, 0x1.01981ep-5f,
     0x1.d550aep-7f, 0x1.7acd9p-8f, 0x1.0ee684p-9f, 0x1.574e24p-11f, 0x1.81789ep-13f, 0x1.7f7a4cp-15f,
     0x1.5200cep-17f, 0x1.07f44ep-19f, 0x1.6d3fb6p-22f},
    {0x1.835d24p-56f, -0x1.02e7b4p-6f, -0x1.afe016p-6f, -0x1.debc56p-6f, -0x1.a1f6bep-6f, -0x1.2f1dfep-6f,
     -0x1.75f92cp-7f, -0x1.8d7596p-8f, -0x1.6ea51p-9f, -0x1.26fe8ap-10f, -0x1.9f6758p-12f, -0x1.008ebap-13f,
     -0x1.1677f6p-15f, -0x1.09f1c8p-17f, -0x1.bf692p-20f, -0x1.4bc11ep-22f},
    {-0x1.6caa42p-8f, -0x1.2df4fcp-8f, -0x1.28cf32p-9f, 0x1.1f70aep-12f, 0x1.022daep-9f, 0x1.45772p-9f,
     0x1.16310ep-9f, 0x1.757404p-10f, 0x1.9df038p-11f, 0x1.83e468p-12f, 0x1.37628cp-13f, 0x1.afce2ap-15f,
     0x1.040486p-16f, 0x1.1102cap-18f, 0x1.f53eeep-21f, 0x1.932b82p-23f},
    {-0x1.952184p-54f, 0x1.de1172p-12f, 0x1.5cc0ap-11f, 0x1.26266p-11f, 0x1.1f395p-12f, -0x1.a7a816p-19f,
     -0x1.44261p-13f, -0x1.75feaep-13f, -0x1.185322p-13f, -0x1.44585ap-14f, -0x1.328bc8p-15f, -0x1.e60a84p-17f,
     -0x1.480a12p-18f, -0x1.7c7dcep-20f, -0x1.7d9b24p-22f, -0x1.4c67cap-24f}};

#endif
