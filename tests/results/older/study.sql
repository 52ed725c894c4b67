BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('v3.2.0.a');
CREATE TABLE studies (
	study_id INTEGER NOT NULL, 
	study_name VARCHAR(512) NOT NULL, 
	PRIMARY KEY (study_id)
);
INSERT INTO "studies" VALUES(1,'old');
CREATE TABLE study_directions (
	study_direction_id INTEGER NOT NULL, 
	direction VARCHAR(8) NOT NULL, 
	study_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	PRIMARY KEY (study_direction_id), 
	UNIQUE (study_id, objective), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_directions" VALUES(1,'MINIMIZE',1,0);
CREATE TABLE study_system_attributes (
	study_system_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_system_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
CREATE TABLE study_user_attributes (
	study_user_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_user_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
CREATE TABLE trial_heartbeats (
	trial_heartbeat_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	heartbeat DATETIME NOT NULL, 
	PRIMARY KEY (trial_heartbeat_id), 
	UNIQUE (trial_id), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_intermediate_values (
	trial_intermediate_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	intermediate_value FLOAT, 
	intermediate_value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_intermediate_value_id), 
	UNIQUE (trial_id, step), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_intermediate_values" VALUES(1,2,10,0.964958131313324,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(2,2,20,9.50956106185913085937e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(3,1,10,9.71633374691009521484e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(4,1,20,9.71165418624877929687e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(5,2,40,9.06131267547607421875e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(6,1,40,0.970438539981842,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(7,2,60,8.8502216339111328125e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(8,1,60,9.69753265380859375e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(9,3,10,9.69251394271850585937e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(10,4,10,9.67628300189971923828e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(11,5,10,9.79201555252075195312e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(12,6,10,9.73069667816162109375e-01,'FINITE');
CREATE TABLE trial_params (
	param_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	param_name VARCHAR(512), 
	param_value FLOAT, 
	distribution_json TEXT, 
	PRIMARY KEY (param_id), 
	UNIQUE (trial_id, param_name), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_params" VALUES(1,1,'kl_weight',0.0001,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.001, "log": true}}');
INSERT INTO "trial_params" VALUES(2,1,'smooth_weight',0.001,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0001, "high": 0.01, "log": true}}');
INSERT INTO "trial_params" VALUES(3,1,'latent_dim',128.0,'{"name": "IntDistribution", "attributes": {"log": true, "step": 1, "low": 64, "high": 256}}');
INSERT INTO "trial_params" VALUES(4,1,'hidden_dim',32.0,'{"name": "IntDistribution", "attributes": {"log": true, "step": 1, "low": 16, "high": 32}}');
INSERT INTO "trial_params" VALUES(5,1,'learning_rate',0.0001,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.001, "log": true}}');
INSERT INTO "trial_params" VALUES(6,1,'free_bits',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0, 0.05, 0.25]}}');
INSERT INTO "trial_params" VALUES(7,1,'fourier_bands',10.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 2, "high": 10}}');
INSERT INTO "trial_params" VALUES(8,1,'num_layers',4.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 3, "high": 5}}');
INSERT INTO "trial_params" VALUES(9,1,'recon_scale',1.0,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1.0, "high": 10000.0, "log": true}}');
INSERT INTO "trial_params" VALUES(10,1,'batch_size',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(11,1,'lr_schedule',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["constant", "cosine", "one_cycle"]}}');
INSERT INTO "trial_params" VALUES(12,2,'kl_weight',0.0001,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.001, "log": true}}');
INSERT INTO "trial_params" VALUES(13,2,'smooth_weight',0.001,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0001, "high": 0.01, "log": true}}');
INSERT INTO "trial_params" VALUES(14,2,'latent_dim',128.0,'{"name": "IntDistribution", "attributes": {"log": true, "step": 1, "low": 64, "high": 256}}');
INSERT INTO "trial_params" VALUES(15,2,'hidden_dim',32.0,'{"name": "IntDistribution", "attributes": {"log": true, "step": 1, "low": 16, "high": 32}}');
INSERT INTO "trial_params" VALUES(16,2,'learning_rate',0.001,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.001, "log": true}}');
INSERT INTO "trial_params" VALUES(17,2,'free_bits',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0, 0.05, 0.25]}}');
INSERT INTO "trial_params" VALUES(18,2,'fourier_bands',2.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 2, "high": 10}}');
INSERT INTO "trial_params" VALUES(19,2,'num_layers',4.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 3, "high": 5}}');
INSERT INTO "trial_params" VALUES(20,2,'recon_scale',1000.0,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1.0, "high": 10000.0, "log": true}}');
INSERT INTO "trial_params" VALUES(21,2,'batch_size',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(22,2,'lr_schedule',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["constant", "cosine", "one_cycle"]}}');
INSERT INTO "trial_params" VALUES(23,3,'kl_weight',1.94144309104287931637e-05,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.001, "log": true}}');
INSERT INTO "trial_params" VALUES(24,3,'smooth_weight',4.63732152749263791535e-03,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0001, "high": 0.01, "log": true}}');
INSERT INTO "trial_params" VALUES(25,3,'latent_dim',198.0,'{"name": "IntDistribution", "attributes": {"log": true, "step": 1, "low": 64, "high": 256}}');
INSERT INTO "trial_params" VALUES(26,3,'hidden_dim',18.0,'{"name": "IntDistribution", "attributes": {"log": true, "step": 1, "low": 16, "high": 32}}');
INSERT INTO "trial_params" VALUES(27,3,'learning_rate',1.60812310137127240476e-05,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.001, "log": true}}');
INSERT INTO "trial_params" VALUES(28,3,'free_bits',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0, 0.05, 0.25]}}');
INSERT INTO "trial_params" VALUES(29,3,'fourier_bands',3.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 2, "high": 10}}');
INSERT INTO "trial_params" VALUES(30,3,'num_layers',3.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 3, "high": 5}}');
INSERT INTO "trial_params" VALUES(31,3,'recon_scale',1.08086461029277702827e+00,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1.0, "high": 10000.0, "log": true}}');
INSERT INTO "trial_params" VALUES(32,3,'batch_size',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(33,3,'lr_schedule',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["constant", "cosine", "one_cycle"]}}');
INSERT INTO "trial_params" VALUES(34,4,'kl_weight',1.25813507919854917571e-05,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.001, "log": true}}');
INSERT INTO "trial_params" VALUES(35,4,'smooth_weight',8.68996773773318773731e-04,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0001, "high": 0.01, "log": true}}');
INSERT INTO "trial_params" VALUES(36,4,'latent_dim',190.0,'{"name": "IntDistribution", "attributes": {"log": true, "step": 1, "low": 64, "high": 256}}');
INSERT INTO "trial_params" VALUES(37,4,'hidden_dim',21.0,'{"name": "IntDistribution", "attributes": {"log": true, "step": 1, "low": 16, "high": 32}}');
INSERT INTO "trial_params" VALUES(38,4,'learning_rate',5.93104530274484592622e-04,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.001, "log": true}}');
INSERT INTO "trial_params" VALUES(39,4,'free_bits',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0, 0.05, 0.25]}}');
INSERT INTO "trial_params" VALUES(40,4,'fourier_bands',10.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 2, "high": 10}}');
INSERT INTO "trial_params" VALUES(41,4,'num_layers',3.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 3, "high": 5}}');
INSERT INTO "trial_params" VALUES(42,4,'recon_scale',5.47859866276738739559e+03,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1.0, "high": 10000.0, "log": true}}');
INSERT INTO "trial_params" VALUES(43,4,'batch_size',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(44,4,'lr_schedule',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["constant", "cosine", "one_cycle"]}}');
INSERT INTO "trial_params" VALUES(45,5,'kl_weight',3.5710540682009515249e-05,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.001, "log": true}}');
INSERT INTO "trial_params" VALUES(46,5,'smooth_weight',5.16562657841576709089e-04,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0001, "high": 0.01, "log": true}}');
INSERT INTO "trial_params" VALUES(47,5,'latent_dim',114.0,'{"name": "IntDistribution", "attributes": {"log": true, "step": 1, "low": 64, "high": 256}}');
INSERT INTO "trial_params" VALUES(48,5,'hidden_dim',16.0,'{"name": "IntDistribution", "attributes": {"log": true, "step": 1, "low": 16, "high": 32}}');
INSERT INTO "trial_params" VALUES(49,5,'learning_rate',2.60426182557025936645e-04,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.001, "log": true}}');
INSERT INTO "trial_params" VALUES(50,5,'free_bits',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0, 0.05, 0.25]}}');
INSERT INTO "trial_params" VALUES(51,5,'fourier_bands',9.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 2, "high": 10}}');
INSERT INTO "trial_params" VALUES(52,5,'num_layers',5.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 3, "high": 5}}');
INSERT INTO "trial_params" VALUES(53,5,'recon_scale',5.75700731447354769427e+02,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1.0, "high": 10000.0, "log": true}}');
INSERT INTO "trial_params" VALUES(54,5,'batch_size',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(55,5,'lr_schedule',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["constant", "cosine", "one_cycle"]}}');
INSERT INTO "trial_params" VALUES(56,6,'kl_weight',4.94298525392797833549e-05,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.001, "log": true}}');
INSERT INTO "trial_params" VALUES(57,6,'smooth_weight',2.05901446126052176414e-04,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0001, "high": 0.01, "log": true}}');
INSERT INTO "trial_params" VALUES(58,6,'latent_dim',159.0,'{"name": "IntDistribution", "attributes": {"log": true, "step": 1, "low": 64, "high": 256}}');
INSERT INTO "trial_params" VALUES(59,6,'hidden_dim',20.0,'{"name": "IntDistribution", "attributes": {"log": true, "step": 1, "low": 16, "high": 32}}');
INSERT INTO "trial_params" VALUES(60,6,'learning_rate',1.08914129921355508259e-05,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.001, "log": true}}');
INSERT INTO "trial_params" VALUES(61,6,'free_bits',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0, 0.05, 0.25]}}');
INSERT INTO "trial_params" VALUES(62,6,'fourier_bands',3.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 2, "high": 10}}');
INSERT INTO "trial_params" VALUES(63,6,'num_layers',5.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 3, "high": 5}}');
INSERT INTO "trial_params" VALUES(64,6,'recon_scale',1.88330178605604487522e+02,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1.0, "high": 10000.0, "log": true}}');
INSERT INTO "trial_params" VALUES(65,6,'batch_size',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(66,6,'lr_schedule',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["constant", "cosine", "one_cycle"]}}');
CREATE TABLE trial_system_attributes (
	trial_system_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_system_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_system_attributes" VALUES(1,1,'fixed_params','{"kl_weight": 0.0001, "smooth_weight": 0.001, "latent_dim": 128, "hidden_dim": 32, "learning_rate": 0.0001, "free_bits": 0, "fourier_bands": 10, "num_layers": 4, "recon_scale": 1, "batch_size": 64, "lr_schedule": "constant"}');
INSERT INTO "trial_system_attributes" VALUES(2,2,'fixed_params','{"kl_weight": 0.0001, "smooth_weight": 0.001, "latent_dim": 128, "hidden_dim": 32, "learning_rate": 0.001, "free_bits": 0, "fourier_bands": 2, "num_layers": 4, "recon_scale": 1000.0, "batch_size": 64, "lr_schedule": "cosine"}');
CREATE TABLE trial_user_attributes (
	trial_user_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_user_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_user_attributes" VALUES(1,2,'progress','{"step": 60, "seconds": 13.601057463998586, "lane": "lane-0", "metrics": {"train/mse": 0.0004982733516953886, "train/kl": 38.380332946777344, "train/kl_free": 38.380332946777344, "train/smooth": 0.2920045256614685, "train/decoder_variance": 0.33750006556510925, "train/effective_beta": 3.375000233063474e-05, "train/loss": 0.5024033784866333, "train/grad_norm": 0.12412454187870026, "train/kl_weight": 0.0001, "train/learning_rate": 6.852326227130834e-07, "train/steps_per_second": 66.3606496180955, "val/prior_rel_l2": 0.8850221633911133, "val/prior_psnr": 18.715620040893555, "val/prior_centroid_px": 0.24080030620098114, "val/prior_radius_error_px": 3.7760393619537354, "val/posterior_rel_l2": 0.8701125979423523, "val/prior_gap": 0.014909565448760986, "val/kl": 92.00992584228516, "val/active_units": 0.0}, "decisions": [{"step": 10, "go_on": true, "rung": 10, "reason": "rank 1 of 1 at rung 10, 1 may go on"}, {"step": 40, "go_on": true, "rung": 40, "reason": "rank 1 of 1 at rung 40, 1 may go on"}]}');
INSERT INTO "trial_user_attributes" VALUES(2,1,'progress','{"step": 60, "seconds": 12.538675478997902, "lane": "lane-1", "metrics": {"train/mse": 0.0005464646965265274, "train/kl": 0.006989785935729742, "train/kl_free": 0.006989785935729742, "train/smooth": 0.0003290678432676941, "train/decoder_variance": 337.5, "train/effective_beta": 0.03374999761581421, "train/loss": 0.0005474927020259202, "train/grad_norm": 0.0006688079447485507, "train/kl_weight": 0.0001, "train/learning_rate": 0.0001, "train/steps_per_second": 70.0118927805093, "val/prior_rel_l2": 0.9697532653808594, "val/prior_psnr": 17.91081428527832, "val/prior_centroid_px": 0.23955650627613068, "val/prior_radius_error_px": 4.304462432861328, "val/posterior_rel_l2": 0.9697466492652893, "val/prior_gap": 6.616115570068359e-06, "val/kl": 0.35276100039482117, "val/active_units": 0.0}, "decisions": []}');
INSERT INTO "trial_user_attributes" VALUES(3,3,'progress','{"step": 10, "seconds": 0.2880420809997304, "lane": "lane-0", "metrics": {"train/mse": 0.0005800103535875678, "train/kl": 1.7566394805908203, "train/kl_free": 1.7566394805908203, "train/smooth": 0.003269023494794965, "train/decoder_variance": 312.2500305175781, "train/effective_beta": 0.0060621569864451885, "train/loss": 0.0006761762779206038, "train/grad_norm": 0.0043038176372647285, "train/kl_weight": 1.9414430910428793e-05, "train/learning_rate": 1.6081231013712724e-05, "train/steps_per_second": 99.28763406334232, "val/prior_rel_l2": 0.9692513942718506, "val/prior_psnr": 17.91533088684082, "val/prior_centroid_px": 0.22762246429920197, "val/prior_radius_error_px": 4.316277027130127, "val/posterior_rel_l2": 0.9692479968070984, "val/prior_gap": 3.3974647521972656e-06, "val/kl": 0.8883041739463806, "val/active_units": 0.0}, "decisions": [{"step": 10, "go_on": false, "rung": 10, "reason": "rank 2 of 3 at rung 10, 1 may go on"}]}');
INSERT INTO "trial_user_attributes" VALUES(4,4,'progress','{"step": 10, "seconds": 0.35111368199795834, "lane": "lane-1", "metrics": {"train/mse": 0.0005524959415197372, "train/kl": 27.911706924438477, "train/kl_free": 27.911706924438477, "train/smooth": 0.01802848093211651, "train/decoder_variance": 0.06160334497690201, "train/effective_beta": 7.750533086436917e-07, "train/loss": 3.0272698402404785, "train/grad_norm": 0.11166036128997803, "train/kl_weight": 1.2581350791985492e-05, "train/learning_rate": 0.0005607822681373638, "train/steps_per_second": 68.50371621034516, "val/prior_rel_l2": 0.9676283001899719, "val/prior_psnr": 17.929838180541992, "val/prior_centroid_px": 0.21429921686649323, "val/prior_radius_error_px": 4.306905269622803, "val/posterior_rel_l2": 0.967468798160553, "val/prior_gap": 0.0001595020294189453, "val/kl": 12.911776542663574, "val/active_units": 0.0}, "decisions": [{"step": 10, "go_on": false, "rung": 10, "reason": "rank 2 of 4 at rung 10, 1 may go on"}]}');
INSERT INTO "trial_user_attributes" VALUES(5,5,'progress','{"step": 10, "seconds": 0.3543121330003487, "lane": "lane-0", "metrics": {"train/mse": 0.0005341698415577412, "train/kl": 4.033687591552734, "train/kl_free": 6.375398635864258, "train/smooth": 0.0013505136594176292, "train/decoder_variance": 0.586242139339447, "train/effective_beta": 2.0935023712809198e-05, "train/loss": 0.30775031447410583, "train/grad_norm": 0.014700825326144695, "train/kl_weight": 3.5710540682009515e-05, "train/learning_rate": 0.00026042618255702594, "train/steps_per_second": 39.755830344754415, "val/prior_rel_l2": 0.9792015552520752, "val/prior_psnr": 17.82671546936035, "val/prior_centroid_px": 0.286434143781662, "val/prior_radius_error_px": 4.322535991668701, "val/posterior_rel_l2": 0.9788289666175842, "val/prior_gap": 0.0003725886344909668, "val/kl": 7.533846378326416, "val/active_units": 0.0}, "decisions": [{"step": 10, "go_on": false, "rung": 10, "reason": "rank 5 of 5 at rung 10, 1 may go on"}]}');
INSERT INTO "trial_user_attributes" VALUES(6,6,'progress','{"step": 10, "seconds": 0.21643174800192355, "lane": "lane-1", "metrics": {"train/mse": 0.0005512058851309121, "train/kl": 0.7502151727676392, "train/kl_free": 7.9499993324279785, "train/smooth": 0.0025574532337486744, "train/decoder_variance": 1.7920653820037842, "train/effective_beta": 8.858152432367206e-05, "train/loss": 0.10420218855142593, "train/grad_norm": 0.006222577765583992, "train/kl_weight": 4.942985253927978e-05, "train/learning_rate": 1.029786651287914e-05, "train/steps_per_second": 103.2541111327858, "val/prior_rel_l2": 0.9730696678161621, "val/prior_psnr": 17.88135528564453, "val/prior_centroid_px": 0.21044103801250458, "val/prior_radius_error_px": 4.3072428703308105, "val/posterior_rel_l2": 0.9730611443519592, "val/prior_gap": 8.52346420288086e-06, "val/kl": 1.3724666833877563, "val/active_units": 0.0}, "decisions": [{"step": 10, "go_on": false, "rung": 10, "reason": "rank 5 of 6 at rung 10, 1 may go on"}]}');
CREATE TABLE trial_values (
	trial_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	value FLOAT, 
	value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_value_id), 
	UNIQUE (trial_id, objective), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_values" VALUES(1,2,0,8.8502216339111328125e-01,'FINITE');
INSERT INTO "trial_values" VALUES(2,1,0,9.69753265380859375e-01,'FINITE');
INSERT INTO "trial_values" VALUES(3,3,0,9.69251394271850585937e-01,'FINITE');
INSERT INTO "trial_values" VALUES(4,4,0,9.67628300189971923828e-01,'FINITE');
INSERT INTO "trial_values" VALUES(5,5,0,9.79201555252075195312e-01,'FINITE');
INSERT INTO "trial_values" VALUES(6,6,0,9.73069667816162109375e-01,'FINITE');
CREATE TABLE trials (
	trial_id INTEGER NOT NULL, 
	number INTEGER, 
	study_id INTEGER, 
	state VARCHAR(8) NOT NULL, 
	datetime_start DATETIME, 
	datetime_complete DATETIME, 
	PRIMARY KEY (trial_id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "trials" VALUES(1,0,1,'COMPLETE','2026-11-27 15:09:26.622615','2026-11-27 15:10:02.532819');
INSERT INTO "trials" VALUES(2,1,1,'COMPLETE','2026-11-27 15:09:26.634629','2026-11-27 15:10:02.371653');
INSERT INTO "trials" VALUES(3,2,1,'PRUNED','2026-11-27 15:10:02.375432','2026-11-27 15:10:02.732534');
INSERT INTO "trials" VALUES(4,3,1,'PRUNED','2026-11-27 15:10:02.535780','2026-11-27 15:10:02.935119');
INSERT INTO "trials" VALUES(5,4,1,'PRUNED','2026-11-27 15:10:02.734956','2026-11-27 15:10:03.138388');
INSERT INTO "trials" VALUES(6,5,1,'PRUNED','2026-11-27 15:10:02.937960','2026-11-27 15:10:03.194290');
CREATE TABLE version_info (
	version_info_id INTEGER NOT NULL, 
	schema_version INTEGER, 
	library_version VARCHAR(256), 
	PRIMARY KEY (version_info_id), 
	CHECK (version_info_id=1)
);
INSERT INTO "version_info" VALUES(1,12,'5.0.0');
CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name);
CREATE INDEX ix_trials_study_id ON trials (study_id);
COMMIT;
